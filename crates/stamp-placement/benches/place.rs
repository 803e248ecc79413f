//! What an answer costs by the number of stamps: `cargo bench -p stamp-placement`.
#![expect(clippy::unwrap_used, reason = "a benchmark fails like a test")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use stamp_placement::catalogue::{Source, read};
use stamp_placement::{Axis, Load, Planner, Request, Usage};

/// Stamps in five geographies, a twentieth of them for tests, a fifth dedicated; 100 tenants.
fn catalogue(stamps: usize) -> String {
    let mut text = String::from("version = 1\n");
    for i in 0..stamps {
        let kind = if i % 5 == 4 { "dedicated" } else { "shared" };
        let environment = if i % 20 == 19 { "test" } else { "production" };
        let ring = ["canary", "early", "general", "general"][i / 5 % 4];
        text += &format!(
            "[[stamps]]\nid = \"s-{i}\"\nregion = \"r-{g}\"\ngeography = \"g-{g}\"\n\
             kind = \"{kind}\"\nenvironment = \"{environment}\"\nring = \"{ring}\"\nversion = \"1\"\n\
             storage-root = \"az://s{i}/telemetry\"\n\
             iot-hub = {{ name = \"s-{i}.azure-devices.net\", tier = \"S2\", units = 10 }}\n\
             event-hub = {{ namespace = \"s-{i}.servicebus.windows.net\", hub = \"t\", \
             tier = \"standard\", throughput-units = 10, partitions = 32 }}\n",
            g = i % 7 % 5
        );
        if kind == "shared" {
            text += "capacity = { tenants = 50 }\n";
        }
    }
    for i in 0..100 {
        text += &format!(
            "[[tenants]]\nid = \"t-{i}\"\ngeographies = [\"g-{}\"]\nschema = \"s.toml\"\n",
            i % 5
        );
    }
    text
}

fn place(c: &mut Criterion) {
    let mut group = c.benchmark_group("place");
    for stamps in [100, 1_000, 5_000] {
        let text = catalogue(stamps);
        let fleet = read(&[Source {
            name: "fleet.toml",
            text: &text,
        }])
        .unwrap()
        .fleet;
        let planner = Planner::new(&fleet);
        let mut usage = Usage::none(&fleet);
        for (i, stamp) in fleet.stamps().iter().enumerate() {
            let devices = (i as u64 * 7_919) % 700_000;
            usage.set(&fleet, &stamp.id, Load::ZERO.with(Axis::Devices, devices));
        }
        let requests: Vec<Request> = fleet.tenants().iter().map(Request::tenant).collect();
        let mut next = requests.iter().cycle();
        group.bench_function(BenchmarkId::new("place", stamps), |b| {
            b.iter(|| planner.place(black_box(&usage), next.next().unwrap()));
        });
        group.bench_function(BenchmarkId::new("explain", stamps), |b| {
            b.iter(|| planner.explain(black_box(&usage), next.next().unwrap()));
        });
    }
    group.finish();
}

fn read_catalogue(c: &mut Criterion) {
    let text = catalogue(5_000);
    let sources = [Source {
        name: "fleet.toml",
        text: &text,
    }];
    c.bench_function("read a catalogue of 5000 stamps", |b| {
        b.iter(|| read(black_box(&sources)).unwrap());
    });
}

criterion_group!(benches, place, read_catalogue);
criterion_main!(benches);

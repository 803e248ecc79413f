//! Writes the first inputs of every target: `cargo run -p stamp-fuzz --example seeds -- OUT
//! [SERIES.csv] [RECORDINGS]`.
//!
//! `OUT` gets a folder for each target. `SERIES.csv` is a series of `timestamp,value` rows, of
//! which the first become bodies; `RECORDINGS` is the folder that tests/fuzz/record.py wrote. The
//! files are where libFuzzer starts from; what it made of them lies in tests/fuzz/corpus.
#![expect(clippy::print_stdout, reason = "a program: its output is its result")]

use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::{env, fs};

use bytes::BytesMut;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use stamp_emulator::amqp::frame::{self, AMQP_HEADER, FrameKind, SASL_HEADER};
use stamp_emulator::amqp::performative::{self, Flow, Performative, Role};
use stamp_emulator::amqp::{code, encode as put};
use stamp_fuzz::{RULES, TARGETS, TELEMETRY, conversation, opened_conversation};

/// Rows of the series that become bodies.
const ROWS: usize = 24;
/// Largest seed: what is longer is cut.
const SEED_BYTES_MAX: usize = 8 << 10;

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let out = arguments.next().ok_or("say where the seeds go")?;
    let series = arguments.next();
    let recordings = arguments.next();
    let mut seeds = bodies(series.as_deref())?;
    seeds.extend(schemas()?);
    seeds.extend(configurations()?);
    seeds.extend(messages());
    seeds.extend(conversations());
    seeds.extend(directories());
    seeds.extend(positions());
    if let Some(folder) = recordings {
        seeds.extend(recorded(&folder)?);
    }
    for target in TARGETS {
        fs::create_dir_all(out.join(target.name))?;
    }
    for (index, (target, seed)) in seeds.iter().enumerate() {
        let seed = &seed[..seed.len().min(SEED_BYTES_MAX)];
        fs::write(out.join(target).join(format!("seed-{index:03}")), seed)?;
    }
    println!("{} seeds in {}", seeds.len(), out.display());
    Ok(())
}

fn with(head: &[u8], rest: impl AsRef<[u8]>) -> Vec<u8> {
    [head, rest.as_ref()].concat()
}

fn bodies(series: Option<&Path>) -> Result<Seeds, Box<dyn Error>> {
    let mut seeds = Seeds::new();
    let one = r#"{"ts":"2026-03-01T12:00:00.5Z","count":5,"mode":"gr\u00fcn","data":{"temp":21.5,"note":"ab"},"on":true,"started":1772366400123.5,"level":0.5}"#;
    let texts = [
        one.to_owned(),
        format!("[{one},{one}]"),
        format!("{one}\n{one}\r\n"),
        format!(
            "\u{1}{one}\u{1e}\u{2}{one}\u{1e}\u{1}{}",
            one.replace("21.5", "-40.0e0")
        ),
        format!("{one}\u{1e}{}\u{1e}{one}", one.replace("21.5", "1e999")),
        r#"{"x":[{"y":{"k":1,"k":1}}],"ts":"2026-02-30T24:00:60+14:00","count":1.5}"#.to_owned(),
        r#"{"a":"\ud83d\ude00 \u0000 \/ \\","ts":"1970-01-01 00:00:00z","count":-0,"new":null}"#
            .to_owned(),
        "{\"count\":9223372036854775808,\"level\":1E-400,\"on\":false,\"mode\":null}".to_owned(),
        "\u{feff} [ ] ".to_owned(),
        format!("{{\"x\":{}1{}}}", "[".repeat(70), "]".repeat(70)),
    ];
    for text in &texts {
        for (schema, coding) in [(0, 0), (1, 1), (0, 6), (1, 7), (0, 8), (0, 9), (0, 10)] {
            seeds.push(("body", with(&[schema, coding], text)));
        }
    }
    for bytes in [one.as_bytes().to_vec(), vec![b' '; 100_000]] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::best());
        for encoder in [&mut gzip as &mut dyn Write, &mut zlib, &mut raw] {
            encoder.write_all(&bytes)?;
        }
        seeds.push(("body", with(&[0, 2], gzip.finish()?)));
        seeds.push(("body", with(&[0, 3], zlib.finish()?)));
        seeds.push(("body", with(&[0, 3], raw.finish()?)));
    }
    let wide: Vec<u8> = one.encode_utf16().flat_map(u16::to_be_bytes).collect();
    seeds.push(("body", with(&[0, 4], wide)));
    let wide: Vec<u8> = one
        .chars()
        .flat_map(|c| u32::from(c).to_le_bytes())
        .collect();
    seeds.push(("body", with(&[0, 5], wide)));
    if let Some(series) = series {
        let rows: Vec<String> = fs::read_to_string(series)?
            .lines()
            .skip(1)
            .take(ROWS)
            .filter_map(|row| {
                let (at, value) = row.split_once(',')?;
                Some(format!(
                    r#"{{"timestamp":"{at}Z","value":{value},"meta":{{"n.o":1,"site":"L4"}}}}"#
                ))
            })
            .collect();
        seeds.push(("body", with(&[2, 0], rows.join("\u{1e}"))));
        seeds.push(("body", with(&[2, 0], rows.join("\n"))));
        seeds.push(("body", with(&[2, 6], format!("[{}]", rows[..8].join(",")))));
    }
    Ok(seeds)
}

fn fenced(document: &str) -> Result<String, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join(document))?;
    let (_, after) = text.split_once("```toml\n").ok_or("no example")?;
    let (example, _) = after.split_once("```").ok_or("no end of the example")?;
    Ok(example.to_owned())
}

fn schemas() -> Result<Seeds, Box<dyn Error>> {
    let example = fenced("docs/schema.md")?;
    let enqueued =
        "version = 1\nevent-time.source = \"enqueued\"\n[[fields]]\nname = \"a\"\ntype = \"i64\"";
    let texts = [
        RULES.to_owned(),
        TELEMETRY.to_owned(),
        example.clone(),
        enqueued.to_owned(),
        format!("{enqueued}\nmin = 5\nmax = 4\nallowed = [1, 2.5]\n"),
        format!("{enqueued}\n[[fields]]\nname = \"A\"\npath = 'a.b\\.c'\ntype = \"bool\""),
        example.replace("\"5m\"", "\"4000d\""),
        example.replace("max-length = 64", "min = 1"),
        example.replace("4096", "65536").replace("16", "0"),
        "version = 2\n\u{fc}".to_owned(),
    ];
    Ok(texts.map(|text| ("schema", text.into_bytes())).to_vec())
}

fn configurations() -> Result<Seeds, Box<dyn Error>> {
    let example = fenced("docs/configuration.md")?;
    let least = "stamp = \"s\"\n[hub]\nendpoint = \"amqp://localhost\"\nhub = \"h\"\n[store]\nurl = \"memory:\"\n[[tenants]]\nid = \"t\"\nschema = \"t.toml\"\n";
    let key = "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=c2VjcmV0LWtleQ==;EntityPath=telemetry";
    let parts = "localhost:5672\u{1e}listen\u{1e}c2VjcmV0LWtleQ==\u{1e}hub\u{1e}UseDevelopmentEmulator=true";
    let mut seeds = vec![
        ("config", with(&[0], &example)),
        ("config", with(&[0], least)),
        (
            "config",
            with(&[0], example.replace("256MiB", "300000001B")),
        ),
        ("config", with(&[0], example.replace("60s", "1h 3ms"))),
        (
            "config",
            with(&[0], example.replace("owner-level = 0", "owner-level = -1")),
        ),
        (
            "config",
            with(
                &[0],
                format!("{least}devices = [\"a*\"]\n[consumer]\npartitions = [0]"),
            ),
        ),
        ("config", with(&[1], key)),
        (
            "config",
            with(
                &[1],
                "endpoint = SB://[::1]:80/;SharedAccessSignature=SharedAccessSignature sr=x&sig=y",
            ),
        ),
        ("config", with(&[2], parts)),
    ];
    seeds.push((
        "config",
        with(&[2], parts.replace("localhost:5672", "u:p@h/x?y#z")),
    ));
    Ok(seeds)
}

/// A message as the service delivers it, with the sections that `more` adds after the annotations.
fn message(more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put::descriptor(&mut out, code::MESSAGE_ANNOTATIONS);
    put::map(&mut out, 6, |out| {
        for key in [
            "x-opt-sequence-number",
            "x-opt-offset",
            "x-opt-enqueued-time",
        ] {
            put::symbol(out, key);
            match key {
                "x-opt-sequence-number" => put::long(out, 42),
                "x-opt-offset" => put::string(out, "4711"),
                _ => put::timestamp(out, 1_700_000_000_123),
            }
        }
        put::symbol(out, "iothub-connection-device-id");
        put::string(out, "press-7");
        put::symbol(out, "iothub-enqueuedtime");
        put::timestamp(out, 1_700_000_000_100);
        put::symbol(out, "iothub-message-source");
        put::string(out, "Telemetry");
    });
    more(&mut out);
    out
}

/// What a hub says to the receiver of a partition. The first byte says how the conversation begins,
/// the others the length of its pieces and the credit.
fn received(messages: &[Vec<u8>]) -> Seeds {
    let mut seeds = Seeds::new();
    for (head, piece, condition) in [
        ([1, 255, 200], 4_096, None),
        ([1, 7, 200], 64, Some("amqp:link:stolen")),
        ([1, 100, 4], 100, Some("com.microsoft:server-busy")),
        ([1, 255, 4], 4_096, None),
    ] {
        let said = conversation(messages, piece, condition);
        seeds.push(("amqp_receiver", with(&head, said)));
    }
    let begun = opened_conversation(false);
    let all = with(&begun, conversation(messages, 4_096, None));
    seeds.push(("amqp_receiver", with(&[0, 255, 200], all)));
    let mut answered = Vec::new();
    frame::put(&mut answered, FrameKind::Amqp, 0, |out| {
        let credit = Flow {
            next_incoming_id: Some(0),
            incoming_window: 2_048,
            handle: Some(7),
            delivery_count: Some(0),
            link_credit: Some(100),
            echo: true,
            ..Flow::default()
        };
        performative::put_flow(out, &credit);
    });
    frame::put(&mut answered, FrameKind::Amqp, 0, |out| {
        put::descriptor(out, code::TRANSFER);
        put::list(out, 2, |out| {
            put::uint(out, 8);
            put::uint(out, 0);
        });
        put::descriptor(out, code::PROPERTIES);
        put::list(out, 6, |out| {
            out.extend_from_slice(&[0x40; 5]);
            put::ulong(out, 0);
        });
        put::descriptor(out, code::APPLICATION_PROPERTIES);
        put::map(out, 1, |out| {
            put::string(out, "status-code");
            put::int(out, 202);
        });
    });
    seeds.push(("amqp_receiver", with(&[3, 255, 8], &answered)));
    let all = with(&opened_conversation(true), &answered);
    seeds.push(("amqp_receiver", with(&[2, 40, 8], all)));
    seeds
}

fn messages() -> Seeds {
    let data = |out: &mut Vec<u8>, body: &[u8]| {
        put::descriptor(out, code::DATA);
        put::binary(out, body);
    };
    let full = message(|out| {
        put::descriptor(out, code::PROPERTIES);
        put::list(out, 8, |out| {
            put::string(out, "m-1");
            out.extend_from_slice(&[0x40; 5]);
            put::symbol(out, "application/json");
            put::symbol(out, "utf-8");
        });
        put::descriptor(out, code::APPLICATION_PROPERTIES);
        put::map(out, 5, |out| {
            for key in ["text", "yes", "int", "long", "none"] {
                put::string(out, key);
                match key {
                    "text" => put::string(out, "größe"),
                    "yes" => put::boolean(out, true),
                    "int" => put::int(out, -7),
                    "long" => put::long(out, i64::MIN),
                    _ => put::null(out),
                }
            }
        });
        data(out, b"{}");
    });
    let mut with_header = Vec::new();
    put::descriptor(&mut with_header, code::HEADER);
    put::list(&mut with_header, 1, |out| put::boolean(out, true));
    put::descriptor(&mut with_header, code::DELIVERY_ANNOTATIONS);
    put::map(&mut with_header, 0, |_| {});
    with_header.extend(message(|out| {
        data(out, b"[");
        data(out, b"]");
        put::descriptor(out, code::FOOTER);
        put::map(out, 0, |_| {});
    }));
    let value = |fill: fn(&mut Vec<u8>)| {
        message(|out| {
            put::descriptor(out, code::VALUE);
            fill(out);
        })
    };
    let mut id_only = message(|out| {
        put::descriptor(out, code::PROPERTIES);
        put::list(out, 1, |out| put::ulong(out, 7));
    });
    data(&mut id_only, &[b'x'; 300]);
    let messages = [
        full,
        with_header,
        id_only,
        value(|out| put::string(out, "{}")),
        value(|out| put::binary(out, &[1, 2])),
        value(put::null),
        value(|out| put::int(out, 7)),
        message(|out| {
            put::descriptor(out, code::SEQUENCE);
            put::list(out, 1, |out| put::int(out, 7));
        }),
    ];
    let mut seeds = received(&messages);
    for message in messages {
        seeds.push(("amqp_codec", message.clone()));
        seeds.push(("amqp_event", message));
    }
    // One of each encoding.
    let values: [&[u8]; 6] = [
        &[0xc0, 9, 4, 0x43, 0x52, 7, 0x55, 0xff, 0x51, 0x80, 0x41],
        &[0xe0, 6, 2, 0xa1, 1, b'a', 1, b'b'],
        &[0x00, 0x53, 0x24, 0x45],
        &[0xd1, 0, 0, 0, 10, 0, 0, 0, 2, 0xa3, 1, b'k', 0x56, 1, 0x40],
        &[0x82, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0],
        &[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
    ];
    seeds.extend(values.map(|value| ("amqp_codec", value.to_vec())));
    seeds
}

/// The frames of a client that does everything once, in order.
fn frames() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    let mut add = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut body = Vec::new();
        fill(&mut body);
        bodies.push(body);
    };
    add(&|out| {
        put::descriptor(out, code::OPEN);
        put::list(out, 5, |out| {
            put::string(out, "c");
            put::string(out, "localhost");
            put::uint(out, 65_536);
            put::ushort(out, 10);
            put::uint(out, 60_000);
        });
    });
    add(&|out| {
        put::descriptor(out, code::BEGIN);
        put::list(out, 4, |out| {
            put::null(out);
            put::uint(out, 0);
            put::uint(out, 100);
            put::uint(out, 100);
        });
    });
    let links = [
        (0, Role::Sender, "telemetry/Partitions/0"),
        (
            1,
            Role::Receiver,
            "telemetry/ConsumerGroups/$Default/Partitions/0",
        ),
        (2, Role::Sender, "$management"),
        (3, Role::Receiver, "$cbs"),
    ];
    for (handle, role, address) in links {
        add(&|out| put_attach(out, handle, role, address));
    }
    for handle in [1, 3] {
        let flow = Flow {
            incoming_window: 100,
            handle: Some(handle),
            link_credit: Some(10),
            echo: true,
            ..Flow::default()
        };
        add(&|out| performative::put_flow(out, &flow));
    }
    for (id, handle, format) in [(0, 0, 0), (1, 0, 0x8001_3700), (2, 2, 0)] {
        add(&|out| {
            put::descriptor(out, code::TRANSFER);
            put::list(out, 5, |out| {
                put::uint(out, handle);
                put::uint(out, id);
                put::binary(out, b"t");
                put::uint(out, format);
                put::boolean(out, true);
            });
            let mut inner = Vec::new();
            put::descriptor(&mut inner, code::DATA);
            put::binary(&mut inner, b"body");
            put::descriptor(out, code::DATA);
            put::binary(out, &inner);
        });
    }
    let accepted = performative::Outcome::Accepted;
    add(&|out| performative::put_disposition(out, Role::Receiver, (0, 5), &accepted));
    add(&|out| performative::put_detach(out, 1, true, None));
    add(&|out| performative::put_end(out, None));
    add(&|out| performative::put_close(out, None));
    bodies
}

fn put_attach(out: &mut Vec<u8>, handle: u32, role: Role, address: &str) {
    put::descriptor(out, code::ATTACH);
    put::list(out, 14, |out| {
        put::string(out, address);
        put::uint(out, handle);
        put::boolean(out, role == Role::Receiver);
        put::ubyte(out, 2);
        put::ubyte(out, 0);
        for kind in [code::SOURCE, code::TARGET] {
            put::descriptor(out, kind);
            put::list(out, 1, |out| put::string(out, address));
        }
        out.extend_from_slice(&[0x40; 2]);
        put::uint(out, 0);
        out.extend_from_slice(&[0x40; 3]);
        put::map(out, 1, |out| {
            put::symbol(out, "com.microsoft:epoch");
            put::long(out, 3);
        });
    });
}

fn conversations() -> Seeds {
    let frames = frames();
    let stream = |frames: &[Vec<u8>]| {
        let mut stream = Vec::new();
        for body in frames {
            frame::put(&mut stream, FrameKind::Amqp, 0, |out| {
                out.extend_from_slice(body)
            });
        }
        stream
    };
    let mut sasl = Vec::new();
    frame::put(&mut sasl, FrameKind::Sasl, 0, |out| {
        put::descriptor(out, code::SASL_INIT);
        put::list(out, 1, |out| put::symbol(out, "ANONYMOUS"));
    });
    let said = with(&AMQP_HEADER, stream(&frames));
    let after_sasl = [&SASL_HEADER[..], &sasl, &said].concat();
    let mut seeds = Seeds::new();
    for selector in [
        "amqp.annotation.x-opt-offset > '-1'",
        "amqp.annotation.x-opt-sequence-number >= '1'",
        "amqp.annotation.x-opt-enqueued-time > 1700000000000",
        "amqp.annotation.x-opt-offset > '@latest'",
        "no selector",
    ] {
        let length = u8::try_from(selector.len()).expect("selectors are short");
        let head = [&[length], selector.as_bytes(), &[0, 100]].concat();
        seeds.push(("emulator", with(&head, &said)));
        seeds.push(("emulator", with(&head, &after_sasl)));
        seeds.push(("emulator", with(&head, stream(&frames[..6]))));
    }
    for piece in [1, 7, 255] {
        seeds.push(("amqp_stream", with(&[piece], &after_sasl)));
        seeds.push(("amqp_stream", with(&[piece], stream(&frames[8..11]))));
    }
    seeds.extend(frames.into_iter().map(|body| ("amqp_codec", body)));
    seeds
}

fn directories() -> Seeds {
    let files = "press-*\npress-eu-7\ngate\u{1e}press-eu-*\noven*\u{1e}x%2e%2e*";
    let events = "gate\u{1e}press-eu-1\u{1f}tenant\u{1f}fabrikam\u{1e}press-eu-7\u{1f}TENANT\u{1f}fabrikam\u{1e}stranger\u{1f}hub-tenant\u{1f}contoso\u{1e}../contoso\u{1e}-absent\u{1e}gate\u{1f}iothub-message-source\u{1f}new\u{1e}c\u{43e}ntoso";
    let mut seeds: Seeds = (0..4)
        .map(|flags| {
            (
                "directory",
                with(&[flags], format!("{files}\u{1e}{events}")),
            )
        })
        .collect();
    seeds.push(("directory", with(&[0], "a*\u{1e}a*\u{1e}b")));
    seeds.push(("directory", with(&[0], "a\\b\u{1e}\u{1e}\u{1e}a")));
    seeds
}

fn positions() -> Seeds {
    let metadata = [
        "12\u{1e}900\u{1e}1795521600123",
        "12\u{1e}900\u{1e}-absent",
        "-1\u{1e}-absent\u{1e}-absent",
        "12x\u{1e}9\u{1e}1",
        "-absent\u{1e}9",
        "99999999999999999999\u{1e}9\u{1e}1",
        "5\u{1e}5\u{1e}yesterday",
    ];
    let bodies = [
        r#"{"sequencenumber":12,"offset":"900","hubcreatedatms":null}"#,
        r#"{"sequencenumber":12,"offset":"900","hubcreatedatms":1795521600123}"#,
        r#"{"sequencenumber":"x","offset":"1"}"#,
        r#"{"sequencenumber":5,"offset":"1","hubcreatedatms":"1"}"#,
        "[5,\"1\"]",
        "12",
        "",
    ];
    let mut seeds = Seeds::new();
    seeds.extend(metadata.map(|text| ("positions", with(&[0], text))));
    seeds.extend(bodies.map(|text| ("positions", with(&[1], text))));
    for text in [
        "4\u{1e}replica-1",
        "03\u{1e}x",
        "1023",
        "x\u{1e}",
        "5/6\u{1e}a",
    ] {
        seeds.push(("positions", with(&[2], text)));
    }
    seeds.push((
        "positions",
        with(&[3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2], "42"),
    ));
    for text in [
        "n.example\u{1e}Hub\u{1e}$Default",
        "..\u{1e}a/b\u{1e}%2f",
        "a\u{1e}a\u{1e}a",
    ] {
        seeds.push(("positions", with(&[4], text)));
    }
    seeds
}

/// Conversations of published clients with the emulator: what they said starts `emulator`, what
/// they heard starts `amqp_stream`.
fn recorded(folder: &Path) -> Result<Seeds, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut seeds = Seeds::new();
    for path in paths {
        let mut bytes = Vec::new();
        fs::File::open(&path)?
            .take(SEED_BYTES_MAX as u64)
            .read_to_end(&mut bytes)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("said") => seeds.push(("emulator", with(&[0, 0, 64], bytes))),
            Some("heard") => {
                seeds.extend(payloads(&bytes));
                seeds.push(("amqp_stream", with(&[255], bytes)));
            }
            _ => {}
        }
    }
    Ok(seeds)
}

/// The first messages in what was heard.
fn payloads(heard: &[u8]) -> Seeds {
    const MESSAGES_MAX: usize = 4;
    // After the last protocol header only frames follow.
    let header = heard.windows(8).rposition(|bytes| bytes == AMQP_HEADER);
    let rest = &heard[header.map_or(0, |at| at + 8)..];
    let mut input = BytesMut::from(rest);
    let mut seeds = Seeds::new();
    while let Ok(Some(frame)) = frame::cut(&mut input, 1 << 20) {
        if let Ok(Performative::Transfer(transfer)) = performative::read(&frame.body) {
            seeds.push(("amqp_event", transfer.payload.to_vec()));
            seeds.push(("amqp_codec", frame.body.to_vec()));
        }
        if seeds.len() >= 2 * MESSAGES_MAX {
            break;
        }
    }
    seeds
}

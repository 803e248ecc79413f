//! The order of rows in a file: by device, then time. Wide rows are not moved, only their numbers.

use stamp_model::{Dictionary, Readings};

/// Numbers of the rows with a sequence above `above`, by device id text, `ts`, sequence and
/// arrival. The same rows give the same order on every run.
///
/// Rows are dealt to their devices in arrival order, which is one pass; a device whose rows came
/// in order of time, as most do, needs no sort at all.
///
/// # Panics
/// With more than 2^32 - 1 rows, which byte limits make unreachable.
#[must_use]
pub fn sorted_rows(readings: &Readings, above: i64) -> Vec<u32> {
    let mut counts = vec![0_usize; readings.devices.len()];
    for (&device, &sequence) in readings.device.iter().zip(&readings.sequence) {
        counts[device as usize] += usize::from(sequence > above);
    }
    let by_text = devices_by_text(&readings.devices, &counts);
    let mut next = vec![0_usize; counts.len()];
    let mut total = 0;
    for &device in &by_text {
        next[device as usize] = total;
        total += counts[device as usize];
    }
    let mut rows = vec![0_u32; total];
    for (row, &device) in readings.device.iter().enumerate() {
        if readings.sequence[row] > above {
            let place = &mut next[device as usize];
            rows[*place] = u32::try_from(row).expect("fewer than 2^32 rows fit any byte limit");
            *place += 1;
        }
    }
    let mut rest = rows.as_mut_slice();
    for &device in &by_text {
        let (run, after) = rest.split_at_mut(counts[device as usize]);
        sort_run(readings, run);
        rest = after;
    }
    rows
}

/// Sorts the rows of one device, which are in arrival order.
#[inline]
fn sort_run(readings: &Readings, run: &mut [u32]) {
    let key = |&row: &u32| {
        let row_index = row as usize;
        (readings.ts_us[row_index], readings.sequence[row_index], row)
    };
    if !run.is_sorted_by_key(key) {
        run.sort_unstable_by_key(key);
    }
}

/// Keys of the devices that have rows, in the order of their texts.
fn devices_by_text(devices: &Dictionary, counts: &[usize]) -> Vec<u32> {
    let texts: Vec<&str> = devices.iter().collect();
    let shared = shared_prefix(&texts);
    let mut keyed: Vec<(u128, u32)> = Vec::with_capacity(texts.len());
    for (key, (text, &count)) in (0_u32..).zip(texts.iter().zip(counts)) {
        if count > 0 {
            keyed.push((leading_bytes(&text.as_bytes()[shared..]), key));
        }
    }
    // Sixteen bytes decide nearly always, and comparing them needs no look at the texts.
    keyed.sort_unstable_by(|a, b| {
        let texts = || texts[a.1 as usize].cmp(texts[b.1 as usize]);
        a.0.cmp(&b.0).then_with(texts)
    });
    keyed.into_iter().map(|(_, key)| key).collect()
}

/// Bytes that all texts begin with.
fn shared_prefix(texts: &[&str]) -> usize {
    let Some((first, rest)) = texts.split_first() else {
        return 0;
    };
    rest.iter().fold(first.len(), |shared, text| {
        let pairs = first.as_bytes()[..shared].iter().zip(text.as_bytes());
        pairs.take_while(|(a, b)| a == b).count()
    })
}

/// The first sixteen bytes as a number that compares as they do; a shorter text is padded with
/// zeros, and equal numbers are told apart by the whole texts.
fn leading_bytes(text: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let count = text.len().min(16);
    bytes[..count].copy_from_slice(&text[..count]);
    u128::from_be_bytes(bytes)
}

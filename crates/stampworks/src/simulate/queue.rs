//! Which device has its turn when: a wheel of one-second buckets, each a list through the devices.
//!
//! Four bytes a device and eight a bucket, whatever happens: a device is in at most one bucket. Devices of
//! a bucket come out in the order in which they were put in.

/// No device.
const NONE: u32 = u32::MAX;

/// The wheel.
pub(super) struct BucketQueue {
    /// The device after each device in its bucket.
    next: Vec<u32>,
    /// First and last device of each bucket.
    ends: Vec<(u32, u32)>,
}

/// The devices of one bucket that was taken out.
pub(super) struct Bucket(u32);

impl BucketQueue {
    /// For so many devices, none of which waits longer than `longest_s`.
    pub(super) fn new(devices: u32, longest_s: u64) -> Self {
        let buckets = usize::try_from(longest_s).unwrap_or(usize::MAX - 2) + 2;
        Self {
            next: vec![NONE; devices as usize],
            ends: vec![(NONE, NONE); buckets],
        }
    }

    /// Bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.next) + size_of_val(&*self.ends)
    }

    /// Gives a device its turn `wait_s` after `now_s`, at the longest wait at most. The device must not be
    /// in the queue.
    pub(super) fn push(&mut self, device: u32, now_s: u64, wait_s: u64) {
        let buckets = self.ends.len() as u64;
        debug_assert!(wait_s < buckets, "{wait_s} s is longer than the wheel");
        let at = ((now_s + wait_s.min(buckets - 1)) % buckets) as usize;
        self.next[device as usize] = NONE;
        let (first, last) = &mut self.ends[at];
        match *last {
            NONE => *first = device,
            last => self.next[last as usize] = device,
        }
        *last = device;
    }

    /// Takes out all whose turn is at `now_s`.
    pub(super) fn open(&mut self, now_s: u64) -> Bucket {
        let at = (now_s % self.ends.len() as u64) as usize;
        let (first, _) = std::mem::replace(&mut self.ends[at], (NONE, NONE));
        Bucket(first)
    }

    /// The next device of a bucket.
    pub(super) fn pop(&self, bucket: &mut Bucket) -> Option<u32> {
        let device = Some(bucket.0).filter(|device| *device != NONE)?;
        bucket.0 = self.next[device as usize];
        Some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_in_order_of_time_and_then_of_arrival() {
        let mut queue = BucketQueue::new(5, 10);
        for (device, wait_s) in [(0, 3), (1, 1), (2, 10), (3, 3), (4, 0)] {
            queue.push(device, 7, wait_s);
        }
        let mut order = Vec::new();
        for now_s in 7..=17 {
            let mut bucket = queue.open(now_s);
            while let Some(device) = queue.pop(&mut bucket) {
                order.push((now_s, device));
            }
        }
        assert_eq!(order, [(7, 4), (8, 1), (10, 0), (10, 3), (17, 2)]);
    }

    #[test]
    fn a_device_may_come_back_while_its_bucket_is_emptied() {
        let mut queue = BucketQueue::new(2, 4);
        queue.push(0, 0, 0);
        queue.push(1, 0, 0);
        let mut bucket = queue.open(0);
        let mut seen = Vec::new();
        while let Some(device) = queue.pop(&mut bucket) {
            seen.push(device);
            queue.push(device, 0, 1);
        }
        assert_eq!(seen, [0, 1]);
        let mut bucket = queue.open(1);
        assert_eq!(queue.pop(&mut bucket), Some(0));
    }
}

//! Window and credit arithmetic on AMQP's 32-bit serial numbers, which wrap.

/// How many more deliveries a receiver allows (AMQP 1.0 part 2.6.7).
///
/// `seen` and `credit` are what the receiver said: it had counted `seen` deliveries when it granted
/// `credit` more. `sent` is the sender's own count. Deliveries in flight use up the grant.
pub fn link_credit(seen: u32, credit: u32, sent: u32) -> u32 {
    credit.saturating_sub(sent.wrapping_sub(seen))
}

/// How many more transfer frames a session's peer allows (part 2.5.6).
///
/// The peer expects `next_incoming` and takes `window` frames from there; `next_outgoing` is the
/// sender's own next id.
pub fn session_window(next_incoming: u32, window: u32, next_outgoing: u32) -> u32 {
    window.saturating_sub(next_outgoing.wrapping_sub(next_incoming))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_in_flight_use_up_the_grant() {
        assert_eq!(link_credit(10, 5, 12), 3);
        assert_eq!(link_credit(10, 5, 15), 0);
        assert_eq!(link_credit(10, 2, 15), 0);
    }

    #[test]
    fn credit_and_window_survive_the_wrap_of_their_counters() {
        assert_eq!(link_credit(u32::MAX - 1, 10, 3), 5);
        assert_eq!(link_credit(0, u32::MAX, 0), u32::MAX);
        assert_eq!(link_credit(u32::MAX, u32::MAX, 7), u32::MAX - 8);
        assert_eq!(session_window(u32::MAX, 4, 1), 2);
        assert_eq!(session_window(5, u32::MAX, 5), u32::MAX);
    }
}

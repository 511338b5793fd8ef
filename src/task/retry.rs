//! Machinery's retry delays.

/// The smallest Fibonacci number (1, 2, 3, 5, 8, …) of seconds greater than `current`: 0 gives 1, 4 gives 5, 8 gives 13.
/// The largest there is in 63 bits for anything beyond it.
pub fn next_retry_timeout(current: u64) -> u64 {
    let (mut a, mut b) = (1u64, 2u64);
    while a <= current {
        let next = a.saturating_add(b);
        if next > i64::MAX as u64 {
            return b;
        }
        (a, b) = (b, next);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::next_retry_timeout;

    #[test]
    fn delays_follow_machinerys_table() {
        let next: Vec<u64> = [0, 1, 2, 3, 4, 5, 8].into_iter().map(next_retry_timeout).collect();
        assert_eq!(next, [1, 2, 3, 5, 5, 8, 13]);
        assert!(next_retry_timeout(u64::MAX) > 1 << 62);
    }
}

//! Ids, positions, events, columns and invariants: the words of Stampworks, plain data.

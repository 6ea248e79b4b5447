//! Container testbed: real clusters under faults.

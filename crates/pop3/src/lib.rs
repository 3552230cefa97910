//! The POP3 wire machine, without I/O

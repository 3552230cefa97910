//! SMTP and LMTP wire machines, server and client side, without I/O

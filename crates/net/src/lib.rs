//! The only place that resolves, dials, listens and does TLS

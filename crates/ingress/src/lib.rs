//! A mail arrives: resolve, judge, store in one commit

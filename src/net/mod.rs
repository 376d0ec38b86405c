//! HTTP: retries with back-off, resumed transfers, certificates.

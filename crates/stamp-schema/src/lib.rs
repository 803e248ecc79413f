//! Tenant schemas, and message bodies to typed columns or a coded rejection.

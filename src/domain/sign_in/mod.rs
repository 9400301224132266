//! How people prove who they are: passwords, sessions, codes sent by email, invitations.

pub mod emailed_codes;
pub mod invitations;
pub mod password;
pub mod sessions;
pub mod throttle;

//! Operations with two entry points, such as an RPC and a page, or an RPC and a job.

pub mod access_log;
pub mod emailed_codes;
pub mod invitations;
pub mod mailboxes;
pub mod new_password;
pub mod notify;
pub mod password_reset;
pub mod reading;
pub mod request;
pub mod shown_links;
pub mod sign_in;
pub mod signing_key_rotation;
pub mod standing;
pub mod transaction;

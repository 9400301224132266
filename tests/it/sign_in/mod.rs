//! Passwords, sessions, and the pages for people.

mod fairness;
mod invitation_page;
mod login;
mod password_makers;
mod password_page;
mod sessions;
mod throttle;

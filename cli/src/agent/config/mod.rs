//! The agent's configuration: flags and files become [`Settings`], which are checked and become a
//! [`Config`].

#[cfg(test)]
mod any_text;
mod check;
mod decode;
mod files;
mod flags;
mod settings;
mod tls;
mod values;

pub(crate) use check::{Config, Retry};
pub(crate) use flags::{read_again, read_config};
pub(crate) use settings::Settings;
pub(crate) use tls::Tls;

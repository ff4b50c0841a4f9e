use super::*;

mod model;
mod scenarios;

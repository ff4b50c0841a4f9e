//! Stores of records. Each kind is one file that says how to open it and runs the contract.

mod contract;
mod crash;
mod embedded;
pub(crate) mod etcd;
mod memory;
pub(crate) mod redis;

//! Stores of records. Each kind is one file that says how to open it and runs the contract.

mod contract;
mod crash;
mod embedded;
mod etcd;
mod memory;

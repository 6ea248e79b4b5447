//! Load generator: convergence and bandwidth of large fleets on one machine.

//! Tests of the node as a whole, without a world.

//! Tests of the control plane's part of the plan.

//! Tests of the files that `tests/simulation/schedules` builds a second time: beside them, they would be built with the
//! schedules too, and run where there is none.

mod facts;
mod local;
mod order;

//! Properties of the whole gate.

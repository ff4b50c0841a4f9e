//! How much may an endpoint that has just come back take? Its share grows over a time.

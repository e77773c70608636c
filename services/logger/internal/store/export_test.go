package store

// Fewer divides the number of rows that tests from outside write.
const Fewer = fewer

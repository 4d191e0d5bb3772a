// Package metering sends copies of counted units to OpenMeter, as CloudEvents (contract 50, section 5.3). Postgres counts and decides; OpenMeter
// gets what db/code/metering has written beside each counter.
//
// # Delivery
//
// One batch at a time is on its way. It is leased, sent without a transaction, and deleted when it was accepted. A worker that dies in between
// leaves the batch, which another worker sends again with the same ids; OpenMeter counts an id once. An event that OpenMeter never takes
// is found by halving the batch and is kept aside, so that it does not hold up the others.
//
// # While OpenMeter is away
//
// Attempts become rarer, up to one in five minutes. What waits is joined by hour once it is much, and dropped after 30 days.
package metering

// Package hub holds the subscriptions and delivers messages to them. It knows
// neither sockets nor NATS.
//
// A hub has as many shards as processors. A subscriber belongs to one shard
// for life, and the shard's goroutine alone owns the map from channels to
// subscribers. Messages and commands reach a shard through one inbox, so
// their order is that in which they were handed in, and no lock is taken on
// the way from a message to a subscriber.
//
// Guarantees:
//
//   - Order. The one caller of Publish hands in stored messages in stream
//     order; every shard delivers them in that order. A subscriber's newest
//     sequence therefore never skips a message of any channel it follows.
//   - Once. A subscriber with overlapping patterns gets a message once, and
//     Join delivers what its subscription missed and then what is live,
//     without gap or duplicate, since both happen in the shard's goroutine.
//   - Blocking. Sinks must not block. Publish waits while a shard's inbox is
//     full: the back pressure ends at the NATS subscription, whose overflow
//     the feed notices and repairs from the stream.
package hub

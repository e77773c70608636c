// Package hub holds the subscriptions and delivers messages to them. It knows
// neither sockets nor NATS.
//
// A hub has as many shards as processors. A subscriber belongs to one shard for
// life. The shard's goroutine alone delivers to it, and alone changes the map from
// channels to subscribers. Messages and commands (Join, Unsubscribe, Detach) reach a
// shard through one inbox. The shard puts each message into its window and walks the
// lists of subscribers that it is for, in slices, taking turns between lists; a
// command acts after every message before it in the inbox, because it first delivers
// to its subscriber whatever the window holds for it. A message that nobody in a
// shard follows, and that no Join in its inbox asks for, does not reach that shard, and
// one that nobody follows anywhere is not even made: see Offer and Recent.
//
// Guarantees:
//
//   - Order. Publish is called for stored messages in the stream's order. Each
//     subscriber gets its messages in that order, across all of its channels; two
//     subscribers of one channel may get a message at different times. So the newest
//     sequence that a subscriber has got never skips a message of a channel that it
//     follows.
//   - Once. A subscriber with overlapping subscriptions gets a message once. Join
//     delivers what its subscription missed and then live messages, without gap or
//     duplicate, since both happen in the shard's goroutine.
//   - Blocking. A Sink must not block, and may have a lock of its own. Publish blocks
//     while a shard's inbox is full. The feed then reads no further from NATS; what
//     NATS drops because of that, the feed notices and repairs from the stream.
package hub

// Package chunk cuts the text of a parsed file into chunks, by the strategies of contract 10, section 18.3.
//
// There is no overlap and nothing is lost: the chunks of Split put together are exactly the text. Custom asks a webhook
// instead and takes what it answers. Split depends on nothing but its arguments, keeps no state and may be called by any
// number of goroutines; its time is linear in the text but for the depth of nesting, of which at most a few levels of
// oversized units are counted again.
package chunk

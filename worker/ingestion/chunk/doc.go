// Package chunk cuts the text of a parsed file into chunks, by the strategies of contract 10, section 18.3.
//
// Chunks do not overlap and no text is lost: the chunks of Split put together are exactly the text. Custom uses the
// chunks of a webhook instead. Split depends only on its arguments, keeps no state and may be called from any number of
// goroutines. Its time is linear in the text, except for nesting: at most a few levels of oversized units are counted
// again.
package chunk

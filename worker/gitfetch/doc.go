// Package gitfetch brings one branch of a foreign git repository onto the local disk and streams its files.
//
// The work is done by the git command line (2.39 or later) in a bare directory. Nothing is ever checked out, so a hostile
// repository has no say over our file system: symlinks, hooks, submodules, LFS filters, "..", and names that differ only in
// case stay entries of a list. Blobs are read by streaming them out of the object store; no file is held in memory.
//
// # What may be contacted
//
// Hosts is the policy and the only door to the network. A host is contacted only when it is a provider's own host, replaces
// it by configuration, or was added by configuration. Its name is resolved once, every address is judged, and both our HTTP
// client and git are pinned to the judged addresses, so a name that changes its mind between check and use (DNS rebinding)
// changes nothing. Git follows no redirects; renamed repositories are followed by our own request, hop by hop under the
// same policy. Proxies of the environment are ignored, because a proxy would resolve names again.
//
// # Credentials
//
// They reach git through its environment only, are sent to the first host only, and appear in no URL, command line, log line
// or error.
//
// # Concurrency and shutdown
//
// A Fetcher is safe for concurrent use; two fetches must not share a directory. Each git process leads its own process group.
// When the context ends the whole group is killed, and the call returns within a second. The group also dies with this
// process, even by kill -9, so that a killed worker's successor finds nobody writing into the directory. A directory left half-filled is
// emptied by the next fetch; one that holds the wanted commit is used as it is, without transferring anything.
//
// # Errors
//
// A *Failure has a code of the contract and a sentence that may be shown to a user. A cancelled context gives the context's
// error. Anything else is a fault of this installation (disk full, git missing).
package gitfetch

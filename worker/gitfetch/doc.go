// Package gitfetch brings one branch of a foreign git repository onto the local disk and streams its files.
//
// The work is done by the git command line (2.39 or later) in a bare directory. Nothing is ever checked out, so a hostile repository
// cannot affect our file system: symlinks, hooks, submodules, LFS filters, "..", and names that differ only in case stay entries of a
// list. Blobs are read by streaming them out of the object store; no file is held in memory.
//
// # What may be contacted
//
// Hosts is the policy, and every network access goes through it. A host is contacted only if it is a provider's own host, replaces it by
// configuration, or was added by configuration. Its name is resolved once, every address is checked, and both our HTTP client and git
// are pinned to the checked addresses. So a name that resolves differently between check and use (DNS rebinding) changes nothing. Git
// follows no redirects; our own request follows renamed repositories, hop by hop under the same policy. Proxies of the environment are
// ignored, because a proxy would resolve names again.
//
// # Credentials
//
// Credentials reach git through its environment only, are sent to the first host only, and appear in no URL, command line, log line or
// error.
//
// # Concurrency and shutdown
//
// A Fetcher is safe for concurrent use; two fetches must not share a directory. Each git process leads its own process group. When the
// context ends the whole group is killed, and the call returns within a second. The group also dies with this process, even by kill -9.
// So when another worker takes over, no old git process is writing into the directory. The next fetch empties a half-filled directory; a
// directory that holds the wanted commit is used without any transfer.
//
// # Errors
//
// A *Failure has a code of the contract and a sentence that may be shown to a user. After the end of the context its error is returned.
// Any other error is a fault of this installation (disk full, git missing).
package gitfetch

// Package graph makes the nodes and links of a project's files from the results of package parse. A link says that one node contains,
// imports, calls, extends or implements another one.
//
// A name is resolved by the rules of its language, as far as declarations show its meaning. A bare name means a declaration of the same
// file that is visible there, of the same package, or an import. A path of names begins with an import, and then can lead only there;
// with a variable, parameter or field of a declared type; with the enclosing object or class; or with a name of the package. Types of
// return values are not inferred. An unresolved name makes no link, because a wrong link is worse than none. A name of one language never
// resolves to a declaration of another language that it cannot call.
//
// # Use
//
// Call Configure with the files that define where modules are (Configures selects them). Add takes each file in turn and returns its
// nodes. Seal ends the adding. Then Links returns the links that begin in a file, and the modules outside of the project that it is the
// first to import.
//
// # Bounds
//
// Memory grows with declarations and imports, not with texts. After MaxDecls declarations, further declarations become nodes that no link
// points to.
package graph

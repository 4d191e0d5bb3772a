// Package graph makes the nodes and links of a project's files from what package parse knows of them: who contains, imports, calls,
// extends and implements whom.
//
// A name means what its language says that it means where it stands, as far as declarations tell. A bare name is something of the same
// file that is seen there, of the same package, or imported. A path of names begins with an import, and then leads nowhere else; with a
// variable, parameter or field of a declared type; with the object or class around it; or with a name of the package. Types of return
// values are not inferred. What remains unknown makes no link, because a wrong link is worse than none; and no name of one language means
// something of another that it cannot call.
//
// # Use
//
// Configure is told the files that say where modules are (Configures names them). Add takes each file in turn and gives its nodes. Seal
// ends that. Then Links gives the links that begin in a file, and the modules outside of the project that it is the first to import.
//
// # Bounds
//
// Memory grows with declarations and imports, not with texts. Past MaxDecls declarations the rest are nodes that nothing points to.
package graph

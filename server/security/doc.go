// Package security holds what the protection of accounts needs outside the database: codes of authenticator apps, their pictures, codes on
// paper, and signed links to compliance documents. Who may do what, what is used up, and what an organization demands is SQL (db/code/security).
//
// A secret leaves the database sealed and is opened here; what is told back is which time step matched, and the function that is told judges
// everything else. Codes and Feature are safe for concurrent use.
package security

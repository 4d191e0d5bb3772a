// Package security holds the parts of account protection outside the database: codes of authenticator apps, their pictures, backup codes,
// and signed links to compliance documents. Permissions, used codes, and the demands of organizations are SQL (db/code/security).
//
// A secret leaves the database sealed and is opened here. Only the matching time step is sent back, to a SQL function that checks
// everything else. Codes and Feature are safe for concurrent use.
package security

// Package upgrades runs programs of the release before beside those of today, on one database. Its tests have the build tag peers, because
// they compile both releases.
package upgrades

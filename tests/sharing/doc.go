// Package sharing tests who is in a project: members, invitations by mail, access, ownership, activity.
package sharing

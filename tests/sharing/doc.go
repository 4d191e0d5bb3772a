// Package sharing tests the people of a project: members, invitations by mail, access, ownership, activity.
package sharing

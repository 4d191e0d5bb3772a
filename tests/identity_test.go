package tests

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
)

func TestSignUp(t *testing.T) {
	s := stack.New(t)
	ann := s.SignUp("Ann")
	me := ann.Get("/auth/me").Want(200)
	require.Equal(t, ann.Email, me.String("email"))
}

// Package chat has black-box tests of questions about contexts and of the chat history, with a double of the model providers.
package chat

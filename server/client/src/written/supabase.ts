export { type ProjectUserCallbacks, subscribeToProjectUsers } from "./websocket.js";

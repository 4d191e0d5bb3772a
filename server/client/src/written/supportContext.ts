export { getUserSupportContext as getCachedUserSupportContext } from "../services/supportContext.js";

const said = document.body.dataset;
if (window.opener && said.origin) {
  window.opener.postMessage({type: "oauth-complete", provider: said.provider, success: said.success === "true"}, said.origin);
  window.close();
}

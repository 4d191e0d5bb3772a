// The page at /docs/graph: a picture and the same nodes as a table, for the owner of a token.
"use strict";

const $ = (id) => document.getElementById(id);

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams({ type: $("type").value, limit: $("limit").value });
  for (const [name, id] of [["linkType", "link"], ["search", "search"], ["path", "path"]]) if ($(id).value) query.set(name, $(id).value);
  const address = "/api/v1/contexts/" + encodeURIComponent($("context").value.trim()) + "/knowledge-graph";
  const read = async (path) => {
    const answer = await fetch(path + "?" + query, { credentials: "omit", headers: { Authorization: "Bearer " + $("token").value.trim() } });
    if (!answer.ok) throw new Error((await answer.json()).message);
    return answer;
  };
  $("said").textContent = "Drawing";
  try {
    const [svg, data] = await Promise.all([read(address + ".svg"), read(address).then((answer) => answer.json())]);
    const picture = new Image();
    picture.alt = `${data.nodes.length} nodes and ${data.links.length} links; the table below names the nodes`;
    picture.src = URL.createObjectURL(await svg.blob());
    picture.onload = () => URL.revokeObjectURL(picture.src);
    $("picture").replaceChildren(picture);
    $("nodes").replaceChildren(...data.nodes.slice(0, 100).map((node) => {
      const line = document.createElement("tr");
      for (const value of [node.name, node.type, node.references, node.path ?? ""]) line.append(Object.assign(document.createElement("td"), { textContent: String(value) }));
      return line;
    }));
    $("said").textContent = `${data.nodes.length} of ${data.meta?.totalNodes ?? data.nodes.length} nodes, ${data.links.length} links`;
  } catch (error) {
    $("said").textContent = error.message;
  }
});

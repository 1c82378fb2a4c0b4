"use strict";
// Draws the description that stands in this page, and sends what is filled in. Everything is set as text, never as markup.
const description = JSON.parse(document.getElementById("description").textContent);
const credential = document.getElementById("credential");

function element(name, members = {}, ...children) {
  const made = Object.assign(document.createElement(name), members);
  made.append(...children);
  return made;
}

// A code block of what is written between backticks.
function prose(text) {
  const parts = (text || "").split("`");
  return parts.map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function resolve(described) {
  if (!described || !described.$ref) return described;
  return described.$ref.slice(2).split("/").reduce((inside, name) => inside[name], description);
}

function example(schema) {
  const shape = resolve(schema) || {};
  if (shape.example !== undefined) return shape.example;
  if (shape.type === "array") return [example(shape.items)];
  if (shape.properties) {
    return Object.fromEntries(Object.entries(shape.properties).map(([name, inner]) => [name, example(inner)]));
  }
  return shape.type === "object" || !shape.type ? {} : "";
}

function field(parameter) {
  const schema = resolve(parameter.schema) || {};
  const list = [].concat(schema.type).includes("array");
  const value = (parameter.required && parameter.example) || "";
  const input = element("input", { spellcheck: false, required: parameter.required, value });
  const note = parameter.description + (list ? " Several: parted by commas." : "");
  return { parameter, list, input, label: element("label", {}, element("code", {}, parameter.name), " ", ...prose(note), input) };
}

function request(path, method, fields, body) {
  const headers = new Headers();
  const query = new URLSearchParams();
  if (credential.value) headers.set("Authorization", "Bearer " + credential.value);
  for (const { parameter, list, input } of fields) {
    if (!input.value) continue;
    const values = list ? input.value.split(",") : [input.value];
    if (parameter.in === "path") path = path.replace("{" + parameter.name + "}", encodeURIComponent(input.value));
    if (parameter.in === "query") values.forEach((value) => query.append(parameter.name, value));
    if (parameter.in === "header") headers.set(parameter.name, input.value);
  }
  if (body) headers.set("Content-Type", "application/json");
  const url = path + (query.size ? "?" + query : "");
  // No answer is kept by a cache. To ask for that here as well would send `Cache-Control: no-cache`, which nobody filled in.
  return [url, { method: method.toUpperCase(), headers, body: body ? body.value : undefined }];
}

async function send(url, options, shown) {
  shown.hidden = false;
  shown.textContent = "…";
  try {
    const answer = await fetch(url, options);
    const text = await answer.text();
    const isJson = (answer.headers.get("content-type") || "").includes("json") && text;
    const headers = [...answer.headers].map(([name, value]) => name + ": " + value).join("\n");
    const body = isJson ? JSON.stringify(JSON.parse(text), null, 2) : text;
    shown.textContent = `${options.method} ${url}\n\n${answer.status}\n${headers}\n\n${body}`;
  } catch (error) {
    shown.textContent = `${options.method} ${url}\n\n${error}`;
  }
}

function answers(responses) {
  const rows = Object.entries(responses).map(([status, described]) => {
    const answer = resolve(described);
    const names = Object.keys(answer.headers || {}).join(", ");
    const told = element("td", {}, ...prose(answer.description), "\n", element("small", {}, names));
    return element("tr", {}, element("td", {}, element("code", {}, status)), told);
  });
  return element("table", {}, ...rows);
}

function operation(path, method, described) {
  const fields = (described.parameters || []).map(field);
  const content = described.requestBody && resolve(described.requestBody).content["application/json"];
  const body = content && element("textarea", { spellcheck: false, value: JSON.stringify(example(content.schema), null, 2) });
  const shown = element("pre", { hidden: true });
  const form = element("form", {}, ...fields.map(({ label }) => label), ...(body ? [body] : []), element("button", {}, "Send"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(...request(path, method, fields, body), shown);
  });
  const title = element("summary", {}, element("code", {}, method.toUpperCase() + " " + path), " ", described.summary || "");
  const about = element("p", {}, ...prose(described.description));
  return element("details", {}, title, about, form, shown, answers(described.responses));
}

function draw() {
  document.getElementById("about").append(...prose(description.info.description), " Version " + description.info.version + ".");
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      document.getElementById("operations").append(operation(path, method, described));
    }
  }
  for (const [name, schema] of Object.entries(description.components.schemas)) {
    const shape = element("pre", {}, JSON.stringify(schema, null, 2));
    document.getElementById("shapes").append(element("details", {}, element("summary", {}, element("code", {}, name)), shape));
  }
}

draw();

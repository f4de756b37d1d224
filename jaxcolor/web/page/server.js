// What the server is asked; each answer is what it says, or an Error with its one line and its status.

async function checked(response) {
  if (response.ok) return response;
  let text = `the server answered ${response.status}`;
  try {
    text = (await response.json()).error;
  } catch {
    // no JSON: the status says enough
  }
  throw Object.assign(new Error(text), { status: response.status });
}

async function reached(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw Object.assign(new Error("The server cannot be reached. Does jaxcolor web still run?"), { status: 0 });
  }
  return checked(response);
}

export async function about() {
  return (await reached("/api/about")).json();
}

export async function upload(file) {
  const form = new FormData();
  form.append("photo", file, file.name);
  return (await reached("/api/photo", { method: "POST", body: form })).json();
}

export function forget(id) {
  fetch(`/api/photo/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

export function ask(id, what, wish) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish) };
  return reached(`/api/photo/${id}/${what}`, options);
}

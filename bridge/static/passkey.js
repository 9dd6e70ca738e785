// Passkeys: hands the options that stand in the page to the browser, and sends what the device says by the page's form.

const form = document.querySelector("form[data-passkey]");
if (form !== null) {
  form.querySelector("[data-again]").addEventListener("click", () => ask(form));
  ask(form);
}

async function ask(form) {
  const failed = form.querySelector("[data-failed]");
  failed.hidden = true;
  try {
    const options = JSON.parse(form.dataset.options);
    const made =
      form.dataset.passkey === "create"
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
    form.elements.credential.value = JSON.stringify(made.toJSON());
    form.submit();
  } catch {
    // Which of the many reasons it was, browsers tell nobody: that would tell which passkeys there are.
    failed.hidden = false;
  }
}

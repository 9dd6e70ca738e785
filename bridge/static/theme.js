// Inside a frame, before anything is painted: light or dark as the page around it is. That page says so in the frame's
// name, which is here before any message could be and stays through every page of the frame; and an address that said
// it would be another page to store.
{
  const told = /^emeritus-(dark|light)$/.exec(window.name);
  if (told !== null) document.documentElement.dataset.theme = told[1];
}

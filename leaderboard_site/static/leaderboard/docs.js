// The API reference: Swagger UI with the schema of this server.

const docs = document.getElementById("docs");
const schema = docs?.dataset.schema;
if (!docs || schema === undefined) throw new Error("The page does not name its schema");

SwaggerUIBundle({
  url: schema,
  domNode: docs,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null, // the default sends the schema to another site
});

//! Compares JSON with a schema of docs/openapi.json. What this does not know in a schema is a failure, so that no rule
//! is skipped.

use serde_json::Value;

/// docs/openapi.json.
pub(crate) fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Checks a value.
///
/// # Errors
/// Where it differs, and how.
pub(crate) fn check(file: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |why: String| Err(format!("{at}: {why}: {value}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "description" | "required" | "properties" | "items" => {}
            "$ref" => {
                let target = file.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                check(file, target.unwrap_or_else(|| panic!("{rule} is missing")), value, at)?;
            }
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                let fits = rule.as_array().map_or_else(|| is(rule), |kinds| kinds.iter().any(is));
                if !fits {
                    return wrong(format!("is no {rule}"));
                }
            }
            "const" if value != rule => return wrong(format!("is not {rule}")),
            "const" => {}
            "enum" if !rule.as_array().unwrap().contains(value) => {
                return wrong(format!("is none of {rule}"));
            }
            "enum" => {}
            "minimum" if value.as_f64() < rule.as_f64() => return wrong(format!("is below {rule}")),
            "maximum" if value.as_f64() > rule.as_f64() => return wrong(format!("is above {rule}")),
            "minimum" | "maximum" => {}
            "minItems" | "maxItems" => {
                let (count, bound) = (value.as_array().map_or(0, Vec::len) as u64, rule.as_u64().unwrap());
                if (keyword == "minItems" && count < bound) || (keyword == "maxItems" && count > bound) {
                    return wrong(format!("has {count} items"));
                }
            }
            "oneOf" | "anyOf" => {
                let outcomes = rule.as_array().unwrap().iter().map(|one| check(file, one, value, at));
                let fits = outcomes.filter(Result::is_ok).count();
                if fits == 0 || (keyword == "oneOf" && fits > 1) {
                    return wrong(format!("fits {fits} of {keyword}"));
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties");
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{name}");
                    match known.and_then(|known| known.get(name)) {
                        Some(_) => {}
                        None if rule == &Value::Bool(false) => return Err(format!("{at} is not described")),
                        None => check(file, rule, inner, &at)?,
                    }
                }
            }
            other => panic!("unknown keyword {other}"),
        }
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
            return wrong(format!("lacks {name}"));
        }
    }
    for (name, rule) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(inner) = value.get(name) {
            check(file, rule, inner, &format!("{at}.{name}"))?;
        }
    }
    let items = schema.get("items").zip(value.as_array());
    for (place, (rule, inner)) in
        items.into_iter().flat_map(|(rule, all)| all.iter().map(move |i| (rule, i))).enumerate()
    {
        check(file, rule, inner, &format!("{at}[{place}]"))?;
    }
    Ok(())
}

#[test]
fn values_that_differ_from_their_schema_are_found() {
    use serde_json::json;
    let file = json!({"s": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}},
                            "required": ["n"], "additionalProperties": false}});
    let schema = json!({"type": "array", "items": {"$ref": "#/s"}, "maxItems": 2});
    let fits = |value: Value| check(&file, &schema, &value, "it");
    assert_eq!(fits(json!([{"n": 1}, {"n": 0}])), Ok(()));
    for wrong in [json!({}), json!([{}]), json!([{"n": -1}]), json!([{"n": "1"}]), json!([{"n": 1, "m": 1}])]
    {
        assert!(fits(wrong.clone()).is_err(), "{wrong}");
    }
    assert!(fits(json!([{"n": 1}, {"n": 1}, {"n": 1}])).is_err());
}

//! Expressions: `+ -` bind least, then `& | ^`, then `* / %`, then signs.

/// Reads a register by its name.
pub(crate) type Registers<'a> = dyn Fn(&str) -> Option<u64> + 'a;

/// Deepest nesting of parentheses and signs.
const MAX_DEPTH: u32 = 64;

struct Parser<'a, 'r> {
    rest: &'a str,
    registers: &'r Registers<'r>,
    depth: u32,
}

/// The value of the expression at the start of `text`, and what follows it.
///
/// # Errors
/// What is wrong, in QEMU's words.
pub(crate) fn evaluate<'a>(
    text: &'a str,
    registers: &Registers<'_>,
) -> Result<(u64, &'a str), String> {
    let mut parser = Parser { rest: text, registers, depth: 0 };
    let value = parser.sum()?;
    Ok((value, parser.rest))
}

impl Parser<'_, '_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn bump(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn sum(&mut self) -> Result<u64, String> {
        let mut value = self.logic()?;
        while let Some(sign @ ('+' | '-')) = self.peek() {
            self.bump();
            let right = self.logic()?;
            value = if sign == '+' { value.wrapping_add(right) } else { value.wrapping_sub(right) };
        }
        Ok(value)
    }

    fn logic(&mut self) -> Result<u64, String> {
        let mut value = self.product()?;
        while let Some(sign @ ('&' | '|' | '^')) = self.peek() {
            self.bump();
            let right = self.product()?;
            value = match sign {
                '&' => value & right,
                '|' => value | right,
                _ => value ^ right,
            };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<u64, String> {
        let mut value = self.unary()?;
        while let Some(sign @ ('*' | '/' | '%')) = self.peek() {
            self.bump();
            let right = self.unary()?;
            value = match sign {
                '*' => value.wrapping_mul(right),
                '/' => value.checked_div(right).ok_or("division by zero")?,
                _ => value.checked_rem(right).ok_or("division by zero")?,
            };
        }
        Ok(value)
    }

    fn unary(&mut self) -> Result<u64, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("expression is nested too deep".to_owned());
        }
        let first = self.peek().ok_or("unexpected end of expression")?;
        let value = match first {
            '+' => {
                self.bump();
                self.unary()?
            }
            '-' => {
                self.bump();
                self.unary()?.wrapping_neg()
            }
            '~' => {
                self.bump();
                !self.unary()?
            }
            '(' => {
                self.bump();
                let value = self.sum()?;
                if self.peek() != Some(')') {
                    return Err("')' expected".to_owned());
                }
                self.bump();
                value
            }
            '\'' => self.character()?,
            '$' => self.register()?,
            '0'..='9' => self.number()?,
            other => return Err(format!("invalid char '{other}' in expression")),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn character(&mut self) -> Result<u64, String> {
        self.bump();
        let c = self.rest.chars().next().ok_or("character constant expected")?;
        self.bump();
        if !self.rest.starts_with('\'') {
            return Err("missing terminating ' character".to_owned());
        }
        self.bump();
        Ok(u64::from(u32::from(c)))
    }

    fn register(&mut self) -> Result<u64, String> {
        self.bump();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (self.registers)(name).ok_or_else(|| "unknown register".to_owned())
    }

    fn number(&mut self) -> Result<u64, String> {
        let hex = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        let (radix, start) = match hex {
            true if self.rest[2..].starts_with(|c: char| c.is_ascii_hexdigit()) => (16, 2),
            _ if self.rest.starts_with('0') => (8, 0),
            _ => (10, 0),
        };
        let digits = &self.rest[start..];
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let value = u64::from_str_radix(&digits[..end], radix);
        self.rest = &digits[end..];
        value.map_err(|_| "number too large".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_the_values_the_original_gives() {
        let registers = |name: &str| (name == "a0").then_some(7);
        for (text, value) in [
            ("1+2", Ok(3)),
            ("1+1&2", Ok(1)),
            ("2*3&1", Ok(0)),
            ("8-4-2", Ok(2)),
            ("2+3*4", Ok(14)),
            (" -3 + 5 ", Ok(2)),
            ("~1&7", Ok(6)),
            ("'a'", Ok(0x61)),
            ("010", Ok(8)),
            ("(1+2)*3", Ok(9)),
            ("$a0+1", Ok(8)),
            ("1/0", Err("division by zero")),
            ("1+", Err("unexpected end of expression")),
            ("$foo", Err("unknown register")),
            ("!0", Err("invalid char '!' in expression")),
            ("(1", Err("')' expected")),
            ("99999999999999999999", Err("number too large")),
        ] {
            let got = evaluate(text, &registers).map(|(value, _)| value);
            assert_eq!(got, value.map_err(str::to_owned), "{text}");
        }
        assert_eq!(evaluate("0x", &registers), Ok((0, "x")));
        assert!(evaluate(&"(".repeat(100_000), &registers).is_err());
        assert!(evaluate(&"-".repeat(100_000), &registers).is_err());
    }
}

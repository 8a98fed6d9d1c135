//! Bytes to tokens.

/// What kind of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `{`
    OpenBrace,
    /// `}`
    CloseBrace,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `:`
    Colon,
    /// `,`
    Comma,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Float,
    /// Lower-case letters.
    Word,
    /// Text in quotes, quotes included.
    Text,
}

/// A token: its kind, and where its text is in the reader's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its first byte.
    pub start: u32,
    /// The byte after its last.
    pub end: u32,
}

/// What a byte completed.
pub enum Lexeme {
    /// A token.
    Token(Token),
    /// Something that begins no token, with the byte that made it wrong.
    Stray(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between tokens.
    #[default]
    Start,
    /// After an error: nothing counts before the next line or structural character.
    Recovery,
    /// After `-`.
    Minus,
    /// After a leading zero.
    Zero,
    /// Among the digits before a point.
    Digits,
    /// After the point.
    Point,
    /// Among the digits after the point.
    Fraction,
    /// After `e`.
    Exponent,
    /// After the sign of the exponent.
    ExponentSign,
    /// Among the digits of the exponent.
    ExponentDigits,
    /// Among letters.
    Word,
    /// In a text that ends with this quote.
    Text(u8),
    /// After a backslash in it.
    Escape(u8),
}

/// What a state does with a byte.
enum Next {
    /// It belongs to the token, which goes on.
    Go(State),
    /// It ends the token, and belongs to it.
    Last(TokenKind),
    /// It ends the token, and is the next one's.
    Before(TokenKind),
    /// It stands between tokens.
    Skip,
    /// Nothing begins like this.
    Wrong,
}

/// Where the lexer is.
#[derive(Default)]
pub struct Lexer {
    state: State,
    start: usize,
}

/// Whether a byte ends any text with an error: control characters, and what UTF-8 never has.
fn breaks(byte: u8) -> bool {
    !(0x20..0xfe).contains(&byte)
}

fn structural(byte: u8) -> Option<TokenKind> {
    Some(match byte {
        b'{' => TokenKind::OpenBrace,
        b'}' => TokenKind::CloseBrace,
        b'[' => TokenKind::OpenBracket,
        b']' => TokenKind::CloseBracket,
        b':' => TokenKind::Colon,
        b',' => TokenKind::Comma,
        _ => return None,
    })
}

impl State {
    fn next(self, byte: u8) -> Next {
        use State as S;
        match (self, byte) {
            (S::Start, b' ' | b'\t' | b'\r' | b'\n') => Next::Skip,
            (S::Start, b'"' | b'\'') => Next::Go(S::Text(byte)),
            (S::Start, b'-') => Next::Go(S::Minus),
            (S::Start | S::Minus, b'0') => Next::Go(S::Zero),
            (S::Start | S::Minus | S::Digits, b'0'..=b'9') => Next::Go(S::Digits),
            (S::Start | S::Word, b'a'..=b'z') => Next::Go(S::Word),
            (S::Start, _) => structural(byte).map_or(Next::Wrong, Next::Last),
            (S::Zero, b'0'..=b'9') => Next::Wrong,
            (S::Zero | S::Digits, b'.') => Next::Go(S::Point),
            (S::Zero | S::Digits | S::Fraction, b'e' | b'E') => Next::Go(S::Exponent),
            (S::Zero | S::Digits, _) => Next::Before(TokenKind::Integer),
            (S::Point | S::Fraction, b'0'..=b'9') => Next::Go(S::Fraction),
            (S::Exponent, b'+' | b'-') => Next::Go(S::ExponentSign),
            (S::Exponent | S::ExponentSign | S::ExponentDigits, b'0'..=b'9') => {
                Next::Go(S::ExponentDigits)
            }
            (S::Fraction | S::ExponentDigits, _) => Next::Before(TokenKind::Float),
            (S::Word, _) => Next::Before(TokenKind::Word),
            (S::Text(_) | S::Escape(_), _) if breaks(byte) => Next::Wrong,
            (S::Text(quote), b'\\') => Next::Go(S::Escape(quote)),
            (S::Text(quote), _) if byte == quote => Next::Last(TokenKind::Text),
            (S::Text(quote) | S::Escape(quote), _) => Next::Go(S::Text(quote)),
            (S::Minus | S::Point | S::Exponent | S::ExponentSign, _) => Next::Wrong,
            (S::Recovery, b'\n' | b'\t' | b'\r') => Next::Skip,
            (S::Recovery, _) if breaks(byte) => Next::Wrong,
            (S::Recovery, _) => structural(byte).map_or(Next::Skip, Next::Last),
        }
    }
}

impl Lexer {
    /// Takes a byte, unless it ends a token that it does not belong to (then the first value is
    /// false), and tells what is complete. Texts of tokens are appended to `text`.
    pub fn step(&mut self, byte: u8, text: &mut Vec<u8>) -> (bool, Option<Lexeme>) {
        if matches!(self.state, State::Start | State::Recovery) {
            self.start = text.len();
        }
        match self.state.next(byte) {
            Next::Skip => {
                if byte == b'\n' {
                    self.state = State::Start;
                }
                (true, None)
            }
            Next::Go(state) => {
                text.push(byte);
                self.state = state;
                (true, None)
            }
            Next::Last(kind) => {
                text.push(byte);
                (true, Some(self.complete(kind, text.len())))
            }
            Next::Before(kind) => (false, Some(self.complete(kind, text.len()))),
            Next::Wrong => {
                text.push(byte);
                let stray = text.get(self.start..).unwrap_or_default();
                let stray = String::from_utf8_lossy(stray).into_owned();
                self.recover();
                (true, Some(Lexeme::Stray(stray)))
            }
        }
    }

    /// Skips what follows, up to the next line or structural character.
    pub fn recover(&mut self) {
        self.state = State::Recovery;
    }

    fn complete(&mut self, kind: TokenKind, end: usize) -> Lexeme {
        self.state = State::Start;
        // The reader's buffer is far below 4 GiB.
        let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Lexeme::Token(Token { kind, start: at(self.start), end: at(end) })
    }
}
